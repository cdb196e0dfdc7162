"""Files for other programs and for people: meshes, pictures, reports."""
