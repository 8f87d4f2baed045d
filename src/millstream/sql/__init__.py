"""Text to plan: the query language."""

from millstream.sql.planner import plan_query

__all__ = ["plan_query"]
