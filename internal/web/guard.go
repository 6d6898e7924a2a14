package web

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// guard lets requests through that name this host. A page of somebody else, to whose name his server gives the address of this
// host for a moment (DNS rebinding), can make a browser ask us as if we were his own, and read the answer; but the browser
// then says his name.
func guard(h http.Handler, names []string) http.Handler {
	known := []string{"localhost"}
	for _, name := range names {
		known = append(known, canonicalName(name))
	}
	return harden(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := hostName(r.Host)
		if _, err := netip.ParseAddr(name); err != nil && !slices.Contains(known, name) {
			http.Error(w, fmt.Sprintf("%.255q is no name of this host: ask by address, or start twill with --http-host NAME", name), http.StatusMisdirectedRequest)
			return
		}
		h.ServeHTTP(w, r)
	}))
}

// hostName is the name or address in a Host header, without its port.
func hostName(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	return canonicalName(strings.TrimSuffix(strings.TrimPrefix(host, "["), "]"))
}

func canonicalName(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }

// harden keeps browsers from making anything of an answer but what it is.
func harden(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		header := w.Header()
		header.Set("Cache-Control", "no-store")
		header.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'")
		header.Set("Cross-Origin-Resource-Policy", "same-origin")
		header.Set("Referrer-Policy", "no-referrer")
		header.Set("X-Content-Type-Options", "nosniff")
		header.Set("X-Frame-Options", "DENY")
		h.ServeHTTP(w, r)
	})
}
