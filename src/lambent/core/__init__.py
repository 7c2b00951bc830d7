"""The platform's decisions, pure. A map of the package:

    model         the nouns: FunctionVersion, Invocation, Outcome, ExitStatus
    states        phases, states, and the tables of legal calls
    environment   machine: one execution environment's life        driven by worker/driver.py
    scheduler     machine: all environments of all functions       driven by dispatcher.py
    fleet         the environments of one function version, as the scheduler keeps them
    concurrency   leases: who may run, who is throttled and why
    keepalive     how long an idle environment is kept
    outcomes      the payloads that the platform itself answers with
    journal       the last steps of a machine, for people and for bug reports

A machine has one method that changes it, `handle(event) -> effects`. Events are what happened, effects are what to
do. There is no clock, no randomness, no socket, no logging and no `await` here; `tests/style/test_layers.py` sees
to it. Time comes in with the events, as seconds on the caller's monotonic clock.
"""
