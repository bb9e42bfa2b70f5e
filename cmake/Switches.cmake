# Switches for tests of the whole program: faults on purpose, optimisations left out.
if(MOEOPT_FAULTS)
  add_compile_definitions(MOEOPT_FAULTS)
endif()
foreach(name ${MOEOPT_BYPASS})
  string(MAKE_C_IDENTIFIER "MOEOPT_BYPASS_${name}" macro)
  string(TOUPPER ${macro} macro)
  add_compile_definitions(${macro})
endforeach()
