//! What is inside a ciphertext.
