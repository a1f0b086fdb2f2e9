"""`python -m fastseq_cli` is `fastseq`."""

from fastseq_cli.main import main

main()
