"""One file a command. Nobody imports them but `toconv.__main__`, which looks them up by name."""
