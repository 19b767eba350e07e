package ownership

import (
	"context"
	"fmt"
	"net"
	"os"
	"strings"
)

// Instance is a static instance id that a restart of this process gets again, and that no other process on this host
// has: the host's name and the first number free on it. It is held as long as the returned release is not called
// and the process lives. The number is a socket's name in the kernel's abstract space, which leaves no file behind.
func Instance(prefix string) (id string, release func()) {
	host, err := os.Hostname()
	if err != nil || host == "" {
		return "", func() {}
	}
	var lc net.ListenConfig
	for n := range 64 {
		l, err := lc.Listen(context.Background(), "unix", fmt.Sprintf("@segsync/%s/%d", prefix, n))
		if err == nil {
			return clean(fmt.Sprintf("%s-%d", host, n)), func() { _ = l.Close() }
		}
	}
	return "", func() {} // a dynamic member: as right, slower to come back
}

// clean keeps the characters that Kafka allows in an instance id.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x80 && (r == '-' || r == '.' || r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z') {
			return r
		}
		return '_'
	}, s)
}
