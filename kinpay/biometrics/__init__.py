"""Who is standing here. For now only the keeping of templates: opaque, versioned blobs, encrypted each under its own key."""
