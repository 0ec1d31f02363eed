"""The subcommands of ``admin-fairseq``, one module each: options, action, and lines to print."""
