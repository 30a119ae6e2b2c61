"""Pictures for the notebooks: `plots`, `interactive` figures, and `views` of tables too large to draw."""
