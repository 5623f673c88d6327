"""One background process per stack: it is the parent of every server, so they end with it.

`state` is what it publishes, `process` what it does, `control` how commands start, watch and
stop it. `./lab up` starts it; a second `./lab up` attaches to it.
"""
