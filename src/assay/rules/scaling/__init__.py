"""Many models over many amounts of data: jobs, who carries them out, what comes of them."""
