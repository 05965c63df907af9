"""The marketplace (modelled on Tokopedia): the side that shops move to, with sellers and sales of its own."""
