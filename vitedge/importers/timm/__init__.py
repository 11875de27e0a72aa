"""timm's transformers over patches: what their weights tell, and what their architecture adds."""
