//go:build !unix

package main

import "github.com/gostrand/strand"

func setLingerZero(strand.Transport) {}
