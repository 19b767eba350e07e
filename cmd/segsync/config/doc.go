// Package config reads segsync's configuration: YAML files of the admins', and of owners' folders, into values that are
// checked as far as that needs nobody to be asked. Whatever is wrong is told with its line and column, all at once, and
// without showing what may be a secret. It wires nothing: package main makes the program's parts of what it returns.
package config
