module github.com/seed-58bc6ac1/realtime/jwks

go 1.26

require (
	github.com/go-jose/go-jose/v4 v4.1.8
	github.com/golang-jwt/jwt/v5 v5.3.1
	github.com/seed-58bc6ac1/realtime v0.0.0
)

replace github.com/seed-58bc6ac1/realtime => ../
