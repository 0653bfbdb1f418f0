module github.com/seed-58bc6ac1/realtime

go 1.26

require (
	github.com/coder/websocket v1.8.15
	github.com/golang-jwt/jwt/v5 v5.3.1
	github.com/prometheus/client_golang v1.25.0
	golang.org/x/time v0.16.0
)
