"""TSV, without quoting: a quotation mark is a character like any other, and no field holds a tab or a line end."""

import csv

from schemas.texts.tables import TextTable

FORMAT = TextTable("tsv", (".tsv",), "a field cannot hold a tab", delimiter="\t", quoting=csv.QUOTE_NONE)
