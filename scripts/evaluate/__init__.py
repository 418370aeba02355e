"""`heed evaluate`: does a trained agent do what it is told?"""
