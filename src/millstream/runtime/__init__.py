"""Which processes run, and how they talk.

`supervisor` starts and keeps the others, each in a `seat`, as a `child` with which it speaks over `control`. The
`server`
owns the log and the gateway; a `worker` runs an application's processors. They meet at an `endpoint` in the data folder
and talk over the `bus`, whose connections are `peer`s that exchange `frame`s; `topics` is pub/sub over it, `measuring`
brings what workers measure to the server. `main` is where a child begins.
"""
