"""Pipelines that the tests share: diffusers costs seconds to import, so all of it is lazy."""

import importlib.util
import os
import warnings
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="session")
def tiny():
    """The module beside this one that builds pipelines."""
    spec = importlib.util.spec_from_file_location("tiny", Path(__file__).with_name("tiny.py"))
    module = importlib.util.module_from_spec(spec)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the libraries that it imports
        spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def words(tmp_path_factory):
    """A folder for tokenizers."""
    return tmp_path_factory.mktemp("tokenizer")
