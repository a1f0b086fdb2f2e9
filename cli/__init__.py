"""The command line: parse, one library call, write. Installed as `fastseq_cli`."""
