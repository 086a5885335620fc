"""``assay studies``: what needs two laboratories at once."""

from __future__ import annotations

from cyclopts import App

from assay.studies import guided_rules_cli

app = App(name="studies", help="Both laboratories at once: guidance where the rules are known.")
for _command in (guided_rules_cli.guided_rules,):
    app.command(_command)
