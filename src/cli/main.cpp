// The program's entry: one verb a file in this folder.
int main() { return 0; }
