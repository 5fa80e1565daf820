"""The source of jobs that producers put on a beanstalkd, as propeller-apns' worker took them.

A client, where the doors are servers. jobs: what a job says; keeping: from a job to the spool, once; asked: the words
that may answer a command; connection: one connection, what is asked and answered on it; source: every tube of this
process, and when it connects again. The protocol's octets are in mcmt/wire/beanstalk.py.

A tube is taken from by one process (the tubes are dealt out among the workers), over one connection: so an answer
needs not say which tube a job is of, and the shard of that process knows which of the tube's jobs it has kept.
"""
