"""CSV, quoted as spreadsheets do."""

from schemas.texts.tables import TextTable

FORMAT = TextTable("csv", (".csv",), "a field that holds a comma stands in quotes")
