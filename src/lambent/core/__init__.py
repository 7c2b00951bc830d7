"""The platform's decisions, pure. A map of the package:

    model         the nouns: FunctionVersion, Invocation, Outcome, ExitStatus
    journal       the last steps of a machine, for people and for bug reports

    environment   machine: one execution environment's life        driven by worker/driver.py
    events        what happens to it
    effects       what it asks for
    states        phases, states, and the tables of legal calls
    refusals      which events are not possible now, and why
    fatal         the first error that a participant does not survive
    ending        the steps of a reset and a shutdown
    ledger        what is told of Inits and invocations
    outcomes      the payloads that the platform itself answers with
    subscription  what an extension wants to be told of, and how

    scheduler     machine: all environments of all functions       driven by dispatcher.py
    scheduling    what happens to it, and what it asks for
    fleet         the environments of one function version, as the scheduler keeps them
    concurrency   leases: who may run, who is throttled and why
    keepalive     how long an idle environment is kept
    headroom      how many environments are started ahead of invocations
    precedence    which environments give way to others on the processors

    blanks        machine: runtimes that wait for a function       driven by worker/blanks.py
    chaos         machine: what goes wrong because somebody asked  driven by dispatcher.py
    idleness      machine: which versions become Inactive          driven by control/inactivity.py
    routing       which version an alias leads to

A machine has one method that changes it, `handle(event) -> effects`. Events are what happened, effects are what to
do. There is no clock, no randomness, no socket, no logging and no `await` here; `tests/style/test_layers.py` sees
to it. Time comes in with the events, as seconds on the caller's monotonic clock.
"""
