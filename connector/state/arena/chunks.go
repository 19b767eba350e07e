package arena

import "unsafe"

// ChunkLen is how many values a chunk holds.
const ChunkLen = 1 << 13

// Chunks is a growing array without the copying (and the doubled memory) of a slice. A value keeps its place.
type Chunks[T any] struct {
	chunks [][]T
	n      uint32
}

// At is the i-th value; it panics if there is none.
func (c *Chunks[T]) At(i uint32) *T { return &c.chunks[i/ChunkLen][i%ChunkLen] }

// Add makes another value, and returns its place.
func (c *Chunks[T]) Add() uint32 {
	if c.n == ^uint32(0) {
		panic("arena: no place is left")
	}
	if c.n%ChunkLen == 0 && int(c.n/ChunkLen) == len(c.chunks) {
		c.chunks = append(c.chunks, make([]T, ChunkLen))
	}
	c.n++
	return c.n - 1
}

// Len is how many values there are.
func (c *Chunks[T]) Len() uint32 { return c.n }

// Bytes is what they take.
func (c *Chunks[T]) Bytes() int {
	var one T
	return len(c.chunks) * ChunkLen * int(unsafe.Sizeof(one))
}
