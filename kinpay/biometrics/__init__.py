"""Who is standing here: templates, encrypted each under its own key; galleries; and how sure a face has to be for an amount."""
