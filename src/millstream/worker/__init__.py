"""Runs an app's processors: reads, steps, commits; handlers, retries, dead letters."""

from millstream.worker.topics import Topics, TopicSubscription

__all__ = ["TopicSubscription", "Topics"]
