package main

// allWorks are in the order of the report.
var allWorks = []*work{
	fanoutWork, manyWork, singleWork, rateWork, topicsWork, compressionWork,
	echoWork, handshakeWork, churnWork, joinsWork, idleWork, stallWork,
	documentWork, documentsWork,
}

func workNames() (names []string) {
	for _, w := range allWorks {
		names = append(names, w.name)
	}
	return names
}
