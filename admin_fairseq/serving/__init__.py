"""Use trained models without fairseq, in CTranslate2 or Hugging Face's transformers (extras)."""
