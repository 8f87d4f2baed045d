"""Text to plan: the query language."""

from millstream.sql.planner import plan_query
from millstream.sql.results import Results
from millstream.sql.statements import Statement, statements

__all__ = ["Results", "Statement", "plan_query", "statements"]
