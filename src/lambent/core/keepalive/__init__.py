"""How long an idle environment is kept, and which goes first when memory is short. One policy per file."""
