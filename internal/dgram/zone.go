package dgram

import (
	"net"
	"strconv"
	"sync"
	"time"
)

// zoneLife is how long a zone is remembered. As in package net it is a minute:
// an interface that goes and comes back has another index.
const zoneLife = time.Minute

// zones remembers the zone looked up last: that takes several system calls, and
// who hears from a link-local address or sends to one does so again.
var zones struct {
	sync.Mutex
	name  string
	index uint32
	until time.Time
}

// scopeOf is the index of the interface that a zone names.
func scopeOf(zone string) (uint32, bool) {
	if n, err := strconv.ParseUint(zone, 10, 32); err == nil {
		return uint32(n), true
	}
	zones.Lock()
	defer zones.Unlock()
	if zones.name != zone || time.Now().After(zones.until) {
		i, err := net.InterfaceByName(zone)
		if err != nil {
			return 0, false
		}
		rememberZoneLocked(i)
	}
	return zones.index, true
}

// zoneOf is the name of an interface, or its number if it has none.
func zoneOf(scope uint32) string {
	if scope == 0 {
		return ""
	}
	zones.Lock()
	defer zones.Unlock()
	if zones.index != scope || time.Now().After(zones.until) {
		i, err := net.InterfaceByIndex(int(scope))
		if err != nil {
			return strconv.FormatUint(uint64(scope), 10)
		}
		rememberZoneLocked(i)
	}
	return zones.name
}

func rememberZoneLocked(i *net.Interface) {
	zones.name, zones.index, zones.until = i.Name, uint32(i.Index), time.Now().Add(zoneLife)
}
