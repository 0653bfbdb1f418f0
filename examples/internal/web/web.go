// Package web serves the pages of the examples.
package web

import (
	"embed"
	"io/fs"
	"net/http"
)

// Policy lets a page load its own scripts and style and talk to its own server, and
// nothing else. The icon is an empty data URL.
const Policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; " +
	"img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// Page serves what is in the folder page of files. It panics if there is none: an
// embed directive names it.
func Page(files fs.FS) http.Handler {
	page, err := fs.Sub(files, "page")
	if err != nil {
		panic(err)
	}
	return serve(page)
}

// phoenix holds the file phoenix.mjs of the npm package phoenix 1.8.16 and its
// licence, unchanged.
//
//go:embed phoenix
var phoenix embed.FS

// PhoenixClient serves the published client of Phoenix as /phoenix/phoenix.mjs.
func PhoenixClient() http.Handler { return serve(phoenix) }

func serve(files fs.FS) http.Handler {
	next := http.FileServerFS(files)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", Policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-cache")
		next.ServeHTTP(w, r)
	})
}
