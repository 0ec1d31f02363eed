"""Trained models outside of fairseq: CTranslate2 (an optional extra)."""
