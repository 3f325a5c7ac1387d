"""The search: from a budget to the best model that keeps it, by making smaller and smaller ones and measuring each."""
