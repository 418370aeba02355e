"""`heed export`: a trained agent as a folder that others can load, and its model card."""
