"""An open vocabulary: any word of a text becomes a vector, and a small transformer relates them (`heed-words`)."""
