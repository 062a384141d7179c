"""The command `everyroof`: one file per subcommand."""
