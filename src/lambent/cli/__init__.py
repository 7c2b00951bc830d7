"""The command line: `lambent up` runs the server, every other command talks to one over HTTP."""
