module github.com/seed-58bc6ac1/realtime/bench

go 1.26.0

replace github.com/seed-58bc6ac1/realtime => ../

require (
	github.com/lxzan/gws v1.8.9
	golang.org/x/sys v0.49.0
)

require (
	github.com/dolthub/maphash v0.1.0 // indirect
	github.com/klauspost/compress v1.18.0 // indirect
	github.com/stretchr/testify v1.11.1 // indirect
)
