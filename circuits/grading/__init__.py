"""The instructor's side: how submissions are executed and graded."""
