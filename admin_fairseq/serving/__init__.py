"""Use trained models without fairseq, in CTranslate2 (an optional extra)."""
