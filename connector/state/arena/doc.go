// Package arena is memory that the garbage collector need not look into: chunks of values without pointers, a store of
// byte strings, and an index that holds no keys. It knows nothing of what lies in it.
package arena
