//! No code: the manifest asks for features of dependencies, and says why.
