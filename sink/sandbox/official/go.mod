module segsync/sink/sandbox/official

go 1.26.0

require segsync v0.0.0

require (
	github.com/antihax/optional v1.0.0 // indirect
	github.com/getbrevo/brevo-go v1.1.3
	golang.org/x/oauth2 v0.38.0 // indirect
)

replace segsync => ../../..
