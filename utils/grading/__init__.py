"""The instructor's side: how submissions are executed and graded."""

import sys

# jsonschema, under nbformat, loads a grammar of web addresses if it is there: more than a second in
# every process, for something that no notebook holds.
sys.modules.setdefault("rfc3987_syntax", None)
