"""`--engine ray`: one run by many workers of a Ray cluster, one a GPU, or one for every few cores.

A worker is a process that does shards of the run beside the others, as `extract --part 1/1` would: the network is
loaded once, and shards are claimed one after the other in the run folder, which all nodes see. So nothing is sent but
the options, and no worker has more work than it can do. The process that began it (`driver`) starts workers (`worker`),
shows how far they have come, gives back what a lost one held, and ends them.
"""
