"""What a person sees: text made printable, progress, and silence of other libraries."""
