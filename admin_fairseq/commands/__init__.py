"""The subcommands of ``admin-fairseq``, one module each: options, and the lines to print."""
