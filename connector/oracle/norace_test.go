//go:build !race

package oracle

const slower = 1
